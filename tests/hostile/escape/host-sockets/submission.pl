#!/usr/bin/perl
for my $port (22, 111, 1024, 2375, 5672, 27017) {
    for my $host (0, 1, 2) {
        socket(my $s, 40, 1 | 2048, 0) or next;
        exit 66 if connect($s, pack("SSLLx4", 40, 0, $port, $host));
    }
}
exit 0;
