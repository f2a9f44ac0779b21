#!/usr/bin/perl
for (1 .. 99000) {
    mkdir("/job/out/$_") or last;
    open(my $file, ">", "/job/out/$_/s") or last;
    chmod(04777, $file);
}
exit 0;
