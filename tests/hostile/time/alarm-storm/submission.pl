#!/usr/bin/perl
$SIG{ALRM} = sub { alarm 1 };
my $every = pack("qqqq", 0, 10, 0, 10);
syscall(38, 0, $every, 0);
1 while 1;
