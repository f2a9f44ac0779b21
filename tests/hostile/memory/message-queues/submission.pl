#!/usr/bin/perl
my $queue = "hoard";
exit(syscall(240, $queue, 0102, 0600, 0) < 0 ? 0 : 66);  # mq_open
