/* Copies what a link leads to, and closes menus. Everything works without it. */
"use strict";

const say = (link, text) => {
    const status = link.parentElement.querySelector("[role=status]");
    if (status) status.textContent = text;
};

document.addEventListener("click", async event => {
    const link = event.target.closest("a[data-audit-copy]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey || !navigator.clipboard) return;
    event.preventDefault();
    try {
        const isText = link.dataset.auditCopy === "text";
        const text = isText ? await (await fetch(link.href)).text() : link.href;
        await navigator.clipboard.writeText(text);
        say(link, link.dataset.auditCopied);
    } catch {
        window.location.assign(link.href);
    }
});

document.addEventListener("keydown", event => {
    if (event.key !== "Escape") return;
    for (const menu of document.querySelectorAll(".audit-menu[open]")) {
        menu.open = false;
        menu.querySelector("summary").focus();
    }
});
