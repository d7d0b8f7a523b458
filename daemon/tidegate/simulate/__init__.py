"""The virtual-time shell: the real engine, triggers and settings; a clock that is only a number and work that is
only a plan of what would happen. Months pass in seconds, and the same seed gives the same trace.
"""
