#!/usr/bin/perl
my $made = 0;
$made++ while $made < 1000 && syscall(294, 0) >= 0;  # inotify_init1
exit($made > 0 ? 0 : 66);
