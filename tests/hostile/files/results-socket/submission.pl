#!/usr/bin/perl
socket(my $s, 1, 1, 0);
bind($s, pack('Sa*', 1, '/job/results.json')) or die;
