#!/usr/bin/perl
my $n = "x";
my $fd = syscall(319, $n, 0);
exit 0 if $fd < 0;
open(my $f, ">&=", $fd);
my $x = "y" x 1048576;
syswrite($f, $x) or exit 0 while 1;
