"""The commands of a chat: one table, and files of a few commands each. None of them knows a terminal."""
