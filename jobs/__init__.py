"""The durable job: its words, record, plan, folder, ledger and account, and what runs it."""
