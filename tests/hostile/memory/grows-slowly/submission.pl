#!/usr/bin/perl
my @x;
push @x, "b" x 100000 while 1;
