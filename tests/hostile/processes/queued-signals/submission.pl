#!/usr/bin/perl
my $blocked = "\xff" x 8;
syscall(14, 0, $blocked, 0, 8) == 0 or exit 3;  # rt_sigprocmask
my ($information, $queued) = (pack("lll", 40, 0, -1) . "\0" x 116, 0);
$queued++ while $queued < 5000 && syscall(129, $$ + 0, 40, $information) == 0;  # rt_sigqueueinfo
exit($queued > 1024 ? 66 : $queued > 0 ? 0 : 3);
