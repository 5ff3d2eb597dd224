"""The engine and its thread: tasks, events, caches, fallbacks when memory runs out."""
