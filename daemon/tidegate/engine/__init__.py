"""The engine: a deterministic state machine. Events and a time come in, commands go out.

It reads no clock, opens no file, awaits nothing. Imports: model/, msgspec and pure standard library.
"""
