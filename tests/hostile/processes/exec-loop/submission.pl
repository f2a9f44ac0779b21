#!/usr/bin/perl
exec $^X, "-e", $ENV{LOOP};
