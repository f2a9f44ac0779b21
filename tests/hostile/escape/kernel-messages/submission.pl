#!/usr/bin/perl
my $b = ' ' x 4096;
exit(syscall(103, 3, $b, 4096) > 0 ? 66 : 0);
