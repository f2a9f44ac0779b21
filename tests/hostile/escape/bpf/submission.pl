#!/usr/bin/perl
my $r = syscall(321, 0, 0, 0);
exit($r < 0 && ($! == 1 || $! == 13 || $! == 38) ? 0 : 66);
