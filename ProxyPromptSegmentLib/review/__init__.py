"""Whether supports are any good: checks, leave-one-out trial, suggestions."""
