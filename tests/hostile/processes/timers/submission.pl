#!/usr/bin/perl
my ($timer, $made) = ("\0" x 4, 0);
$made++ while $made < 5000 && syscall(222, 1, 0, $timer) == 0;  # timer_create
exit($made > 1024 ? 66 : $made > 0 ? 0 : 3);
