#!/usr/bin/perl
syscall(9, 0, 1 << 40, 0, 0x4022, -1, 0);
exit 0;
