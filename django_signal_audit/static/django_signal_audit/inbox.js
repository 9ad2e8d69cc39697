/* Says that there are new messages: pushed where the server can, asked for once a minute elsewhere. */
"use strict";

for (const box of document.querySelectorAll("[data-audit-stream]")) {
    const { auditStream, auditUnread } = box.dataset;
    let newest = null;
    let unread = null;

    const show = state => {
        const isNew = newest === null ? false : state.newest === undefined ? state.unread > unread : state.newest > newest;
        newest = state.newest ?? newest ?? 0;
        unread = state.unread;
        for (const badge of document.querySelectorAll("[data-audit-badge]")) badge.textContent = state.unread || "";
        if (isNew) box.hidden = false;
        document.dispatchEvent(new CustomEvent("audit:inbox", { detail: state }));
    };

    const ask = async () => {
        if (document.hidden) return;
        const response = await fetch(auditUnread, { headers: { Accept: "application/json" } });
        if (response.ok) show(await response.json());
    };
    const poll = () => {
        ask().catch(() => {});
        setInterval(() => ask().catch(() => {}), 60000);
    };

    const source = new EventSource(auditStream);
    source.addEventListener("inbox", event => show(JSON.parse(event.data)));
    source.addEventListener("replaced", () => {
        source.close();
        poll();
    });
    source.addEventListener("error", () => {
        // The browser connects again by itself, unless the answer was no stream.
        if (source.readyState === EventSource.CLOSED) poll();
    });
}
