#!/usr/bin/perl
open(my $file, ">", "/job/out/1") or exit 66;
chmod(06777, $file);
for (2 .. 40000) { link("/job/out/1", "/job/out/$_") or exit 66 }
exit 0;
