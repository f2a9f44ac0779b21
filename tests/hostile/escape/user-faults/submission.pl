#!/usr/bin/perl
my $r = syscall(323, 0);
exit($r < 0 && ($! == 1 || $! == 38) ? 0 : 66);
