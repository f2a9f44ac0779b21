#!/usr/bin/perl
my $context = "\0" x 8;
my $r = syscall(206, 65000, $context);
exit($r < 0 && ($! == 38 || $! == 1) ? 0 : 66);
