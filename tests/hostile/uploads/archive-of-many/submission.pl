#!/usr/bin/perl
open(my $tar, "|-", "tar", "xf", "-", "-C", "/job/out") or exit 66;
for (1 .. 60000) {
    my $header = pack("a100 a8 a8 a8 a12 a12 a8 a1 a100 a255", "m$_", ("0000644") x 3, ("0" x 11) x 2, " " x 8, "0", "", "ustar\00000");
    print $tar substr($header, 0, 148), sprintf("%06o\0 ", unpack("%32C*", $header)), substr($header, 156);
}
print $tar "\0" x 1024;
exit(close($tar) ? 0 : 3);
