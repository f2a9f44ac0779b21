#!/usr/bin/perl
mkdir "/tmp/p";
my ($a, $b) = ("/tmp", "/tmp/p");
exit(syscall(155, $a, $b) == 0 ? 66 : 0);
