"""The durable account: every fire, run and attempt in SQLite. It decides nothing; it keeps what records say."""
