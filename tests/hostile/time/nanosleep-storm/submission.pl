#!/usr/bin/perl
select(undef, undef, undef, 0.00001) while 1;
