#!/usr/bin/perl
my @open;
while (@open < 1000 && open(my $terminal, "+<", "/dev/ptmx")) { push(@open, $terminal) }
exit(@open ? 0 : 3);
