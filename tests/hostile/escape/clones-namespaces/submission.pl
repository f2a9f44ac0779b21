#!/usr/bin/perl
my ($users, $chld) = (0x10000000, 17);
my $r = syscall(56, $users | $chld, 0, 0, 0, 0);
exit 66 if $r == 0;
exit 66 unless $r < 0 && $! == 1;
$r = syscall(435, pack("Q11", $users, 0, 0, 0, $chld, 0, 0, 0, 0, 0, 0), 88);
exit($r < 0 && $! == 38 ? 0 : 66);
