"""The tree, the notes and the leaf against published vectors, and what a verifier has to refuse."""

from __future__ import annotations

import base64
import json
import struct
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_signal_audit.evidence import leaf, notes, standalone, tree

# The leaves and roots of the reference implementation of Certificate Transparency (RFC 6962).
LEAVES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
HASHES = list(map(tree.leaf_hash, LEAVES))

# The example of Go's package golang.org/x/mod/sumdb/note, whose format C2SP took over.
KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
SIGNATURE = "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM="
GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 7, 8, 11, 64])
def test_leaves_that_are_added_together_make_the_same_tree(size: int) -> None:
    for count in range(70):
        one, other = (tree.Stack() for _ in range(2))
        for leaf_hash in numbered(size + count):
            one.append(leaf_hash)
        other.extend(b"".join(numbered(size)))
        other.extend(b"".join(numbered(size + count)[size:]))
        assert (one.size, one.hashes, one.root()) == (other.size, other.hashes, other.root())


def subtree(hashes: list[bytes]) -> tree.Subtree:
    return lambda start, end: tree.root_of(hashes[start:end])


def numbered(count: int) -> list[bytes]:
    return [tree.leaf_hash(bytes([number])) for number in range(count)]


@pytest.mark.parametrize("size", range(9))
def test_roots_are_those_of_certificate_transparency(size: int) -> None:
    assert tree.root_of(HASHES[:size]).hex() == ROOTS[size]


def test_every_leaf_is_proved_in_every_tree() -> None:
    hashes = numbered(70)
    for size in range(1, 70):
        root = tree.root_of(hashes[:size])
        for index in range(size):
            proof = tree.inclusion_proof(index, size, subtree(hashes))
            assert tree.is_included(hashes[index], index, size, proof, root)


def test_every_tree_is_proved_to_extend_every_older_one() -> None:
    hashes = numbered(40)
    roots = [tree.root_of(hashes[:size]) for size in range(41)]
    for size in range(1, 41):
        for old in range(1, size + 1):
            proof = tree.consistency_proof(old, size, subtree(hashes))
            assert tree.is_consistent(old, roots[old], size, roots[size], proof)
            assert not tree.is_consistent(old, roots[old - 1], size, roots[size], proof)


def mutations(proof: list[bytes]) -> list[list[bytes]]:
    found = [[*proof, b"x" * 32], [b"x" * 32, *proof], proof[1:], proof[:-1], [*proof, b""], proof * 70]
    for at, item in enumerate(proof):
        for place in range(32):
            changed = item[:place] + bytes([item[place] ^ 8]) + item[place + 1 :]
            found.append([*proof[:at], changed, *proof[at + 1 :]])
        found.append([*proof[:at], item[:-1], *proof[at + 1 :]])
    return [item for item in found if item != proof]


@pytest.mark.parametrize(("index", "size"), [(0, 1), (0, 8), (5, 8), (6, 7), (2, 5), (4, 5)])
def test_an_inclusion_proof_with_anything_changed_is_refused(index: int, size: int) -> None:
    proof = tree.inclusion_proof(index, size, subtree(HASHES))
    root = bytes.fromhex(ROOTS[size])
    assert tree.is_included(HASHES[index], index, size, proof, root)
    for other in mutations(proof):
        assert not tree.is_included(HASHES[index], index, size, other, root)
    others = {index ^ 2, index + 1, index - 1, -1, size, 1 << 63} - {index}
    for other_index in others:
        assert not tree.is_included(HASHES[index], other_index, size, proof, root)
    assert not tree.is_included(b"", index, size, proof, root)
    assert not tree.is_included(HASHES[index], index, 1 << 63, proof, root)
    assert not tree.is_included(HASHES[index], index, 0, proof, root)


@pytest.mark.parametrize(("old", "size"), [(1, 1), (1, 8), (6, 8), (2, 5), (4, 8), (7, 8)])
def test_a_consistency_proof_with_anything_changed_is_refused(old: int, size: int) -> None:
    proof = tree.consistency_proof(old, size, subtree(HASHES))
    roots = bytes.fromhex(ROOTS[old]), bytes.fromhex(ROOTS[size])
    assert tree.is_consistent(old, roots[0], size, roots[1], proof)
    for other in mutations(proof):
        assert not tree.is_consistent(old, roots[0], size, roots[1], other)
    for other_old in (0, -1, size + 1, 1 << 63):
        assert not tree.is_consistent(other_old, roots[0], size, roots[1], proof)


def decoded(text: str | None) -> bytes:
    return base64.b64decode(text or "")


# The vectors of github.com/transparency-dev/merkle at 417fb0c, under the licence beside them.
@pytest.mark.parametrize("line", (GOLDEN / "transparency_dev.jsonl").read_text(encoding="utf-8").splitlines())
def test_the_published_proofs_of_transparency_dev_are_accepted_and_refused_as_they_say(line: str) -> None:
    vector = json.loads(line)
    proof = list(map(decoded, vector["proof"] or []))
    if vector["kind"] == "inclusion":
        root, sizes = decoded(vector["root"]), (vector["leafIdx"], vector["treeSize"])
        is_accepted = tree.is_included(decoded(vector["leafHash"]), *sizes, proof, root)
    else:
        roots, sizes = (decoded(vector["root1"]), decoded(vector["root2"])), (vector["size1"], vector["size2"])
        is_accepted = tree.is_consistent(sizes[0], roots[0], sizes[1], roots[1], proof)
    # One vector has a short text in place of roots, which are refused here.
    is_strict = any(0 < len(decoded(vector.get(name))) < tree.HASH_SIZE for name in ("root1", "root2"))
    assert is_accepted is not (vector["wantErr"] or is_strict), vector["desc"]


def test_the_published_example_of_a_note_verifies() -> None:
    pytest.importorskip("cryptography")
    key = notes.PublicKey.of(KEY)
    text, [(name, data)] = notes.split_note(f"{TEXT}\n\u2014 PeterNeumann {SIGNATURE}\n")
    assert (text, name, str(key)) == (TEXT, key.name, KEY)
    assert data[:4] == key.hash
    assert key.verifies(data[4:], TEXT.encode())
    assert not key.verifies(data[4:], TEXT.encode() + b" ")


def test_a_checkpoint_with_any_byte_changed_is_refused() -> None:
    pytest.importorskip("cryptography")
    key = notes.PrivateKey(notes.PrivateKey.generate("example.com/audit"))
    public = notes.PublicKey.of(key.public_key)
    lines = notes.time_lines("2026-11-27T12:00:00.000000Z", 3)
    checkpoint = notes.Checkpoint("example.com/audit", 8, bytes.fromhex(ROOTS[8]), lines)
    note = notes.sign_note(str(checkpoint), key)
    assert notes.signers_of(note, [public]) == (checkpoint, [str(public)])
    for place, char in enumerate(note):
        for other in {chr(ord(char) ^ 1), "\n", ""} - {char}:
            changed = note[:place] + other + note[place + 1 :]
            try:
                found, signers = notes.signers_of(changed, [public])
            except notes.NoteError:
                continue
            assert not signers, (place, other, found)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "name",
        "name+00000000+AQ==",
        KEY.replace("c74f20a3", "c74f20a4"),
        KEY.replace("Peter", "Pe ter"),
        KEY[:-4],
        KEY.replace("+AR", "+BR"),
    ],
)
def test_what_is_no_public_key_is_refused(text: str) -> None:
    with pytest.raises(notes.NoteError):
        notes.PublicKey.of(text)


@pytest.mark.parametrize("size", ["-1", "01", "1 ", "", "9" * 30, "\u0661", "1.0"])
def test_what_is_no_size_is_refused(size: str) -> None:
    with pytest.raises(notes.NoteError):
        notes.Checkpoint.of(f"origin\n{size}\n{base64.b64encode(b'x' * 32).decode()}\n")


def test_a_commitment_is_the_digest_of_a_disclosure_as_in_rfc_9901() -> None:
    # The example of the RFC has blanks after its commas, so its text is made here.
    text = base64.urlsafe_b64encode('["_26bc4LT-ac6q2KI6cBW5es", "family_name", "M\u00f6bius"]'.encode())
    assert leaf.digest_of(text.rstrip(b"=").decode()) == "X9yH0Ajrdm1Oij4tWso9UzzKJvPoDxwmuEcO3XAdRC0"


def test_every_golden_leaf_has_its_hash_for_ever() -> None:
    for line in (GOLDEN / "leaves_1.jsonl").read_text(encoding="utf-8").splitlines():
        golden = leaf.decode(line)
        text = leaf.leaf_text(golden["event"], golden["commitments"])
        assert text == golden["text"]
        assert tree.leaf_hash(text.encode()).hex() == golden["hash"]


@pytest.mark.parametrize("line", (GOLDEN / "notes.jsonl").read_text(encoding="utf-8").splitlines())
def test_every_golden_checkpoint_verifies_for_ever_with_its_times_and_without(line: str) -> None:
    pytest.importorskip("cryptography")
    golden = leaf.decode(line)
    checkpoint, signers = notes.signers_of(golden["note"], [notes.PublicKey.of(golden["key"])])
    assert signers == [golden["key"]]
    root, lines = bytes.fromhex(golden["root"]), tuple(golden["lines"])
    assert checkpoint == notes.Checkpoint("example.com/audit", golden["size"], root, lines)
    assert golden["note"].startswith(f"{checkpoint}\n")
    standalone.require_signature(golden["note"], golden["key"])
    assert standalone.parse_checkpoint(golden["note"])[:3] == (checkpoint.origin, checkpoint.size, checkpoint.root)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (100.0, "100"),
        (1e22, "1e+22"),
        (10**22, "1e+22"),
        (10**300, "1e+300"),
        (1e300, "1e+300"),
        (2**53 + 1, "9007199254740993"),
        (-0.0, "0"),
        (1e-7, "1e-7"),
        (0.1, "0.1"),
        (10**400, "1" + "0" * 400),
        (True, "true"),
        ({"b": [1.0, "1.0"], "a": {"\u00e9": None}}, '{"a":{"\u00e9":null},"b":[1,"1.0"]}'),
        ('a\u2028\x7f"\\\n\t\x01', '"a\u2028\x7f\\"\\\\\\n\\t\\u0001"'),
    ],
)
def test_numbers_have_one_text_however_a_database_writes_them(value: object, text: str) -> None:
    assert leaf.canonical(leaf.decode(json.dumps(value))) == text


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(JSON)
def test_what_is_canonical_stays_so_when_it_is_read_back(value: object) -> None:
    text = leaf.canonical(leaf.decode(json.dumps(value)))
    assert leaf.canonical(leaf.decode(text)) == text


# RFC 8785, appendix B: the bits of a double, and its text.
NUMBERS = {
    "0000000000000000": "0",
    "8000000000000000": "0",
    "0000000000000001": "5e-324",
    "8000000000000001": "-5e-324",
    "7fefffffffffffff": "1.7976931348623157e+308",
    "ffefffffffffffff": "-1.7976931348623157e+308",
    "4340000000000000": "9007199254740992",
    "c340000000000000": "-9007199254740992",
    "4430000000000000": "295147905179352830000",
    "44b52d02c7e14af5": "9.999999999999997e+22",
    "44b52d02c7e14af6": "1e+23",
    "44b52d02c7e14af7": "1.0000000000000001e+23",
    "444b1ae4d6e2ef4e": "999999999999999700000",
    "444b1ae4d6e2ef4f": "999999999999999900000",
    "444b1ae4d6e2ef50": "1e+21",
    "3eb0c6f7a0b5ed8c": "9.999999999999997e-7",
    "3eb0c6f7a0b5ed8d": "0.000001",
    "41b3de4355555553": "333333333.3333332",
    "41b3de4355555554": "333333333.33333325",
    "41b3de4355555555": "333333333.3333333",
    "41b3de4355555556": "333333333.3333334",
    "41b3de4355555557": "333333333.33333343",
    "becbf647612f3696": "-0.0000033333333333333333",
    "43143ff3c1cb0959": "1424953923781206.2",
}


@pytest.mark.parametrize(("bits", "text"), NUMBERS.items())
def test_numbers_are_written_as_rfc_8785_does(bits: str, text: str) -> None:
    (number,) = struct.unpack(">d", bytes.fromhex(bits))
    for written in (json.dumps(number), text, format(Decimal(repr(number)), "f")):
        assert leaf.canonical(leaf.decode(written)) == text
        assert leaf.canonical(leaf.decode(f"[{written}]")) == f"[{text}]"


@pytest.mark.parametrize("text", ["", "{", '{"a":1} x', "nothing", '"a', "[1,]"])
def test_what_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        leaf.decode(text)


def test_white_space_around_json_says_nothing() -> None:
    assert leaf.decode(' {"a": 1} ') == {"a": 1}
