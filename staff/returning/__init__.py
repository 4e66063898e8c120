"""Give the grades back: each platform's own table filled in, by the rules that it imports by."""
