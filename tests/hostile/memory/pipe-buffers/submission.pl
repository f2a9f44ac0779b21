#!/usr/bin/perl
my (@ends, $filled);
while (@ends < 1000 && pipe(my $reader, my $writer)) {
    fcntl($writer, 1031, 1 << 20);  # F_SETPIPE_SZ
    push(@ends, $reader, $writer);
    $filled += syswrite($writer, "x" x 4096);
}
exit($filled ? 0 : 66);
