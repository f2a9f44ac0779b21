#!/usr/bin/perl
my $x = "a" x 1000000;
$x .= $x while 1;
