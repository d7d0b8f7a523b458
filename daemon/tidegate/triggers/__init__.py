"""When jobs are due. Imports nothing: who only wants to know a time zone need not wait for APScheduler."""
