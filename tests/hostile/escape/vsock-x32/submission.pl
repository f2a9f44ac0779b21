#!/usr/bin/perl
my $r = syscall(0x40000000 | 41, 40, 1, 0);
exit($r < 0 && ($! == 1 || $! == 38) ? 0 : 66);
