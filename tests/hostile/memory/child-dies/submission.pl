#!/usr/bin/perl
unless (fork) { my @x; push @x, "b" x 100000 while 1; }
wait;
exit 0;
