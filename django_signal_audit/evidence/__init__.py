"""Evidence: sealing events into a Merkle tree, so that any later edit, deletion or insertion can be shown."""
