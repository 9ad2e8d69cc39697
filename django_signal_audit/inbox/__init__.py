"""The messages of the inbox channel, for the users they are addressed to: pages and JSON."""
