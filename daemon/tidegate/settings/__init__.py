"""TOML text in, a resolved Plan out; every error of every file at once, as path:line. Starts nothing."""
