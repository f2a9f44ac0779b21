#!/usr/bin/perl
exit(socket(my $s, 2, 3, 1) ? 66 : 0);
