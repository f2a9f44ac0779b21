#!/usr/bin/perl
my $parameters = "\0" x 120;
my $r = syscall(425, 8, $parameters);
exit($r < 0 && ($! == 1 || $! == 38) ? 0 : 66);
