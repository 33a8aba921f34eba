"""The buffer that every connection of a process reads into.

One is enough: the event loop asks for it, fills it and announces the bytes in one go, and whoever gets them copies
what it keeps. Its size bounds what one read can add to the memory of a connection whose peer does not take it; the
event loop's own default would be four times as much.
"""

READ_BYTES = 64 * 1024

READ_BUFFER = memoryview(bytearray(READ_BYTES))
