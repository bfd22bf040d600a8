"""The native decode step for the CPU, in C++: whole tokens in one call, without the GIL."""
