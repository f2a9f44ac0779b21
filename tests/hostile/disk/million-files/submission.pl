#!/usr/bin/perl
for (1 .. 1000000) { open(my $file, ">", "/job/out/$_") or exit 0 }
exit 66;
