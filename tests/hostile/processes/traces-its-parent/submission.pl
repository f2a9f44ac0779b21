#!/usr/bin/perl
my $parent = $$;
unless (fork) {
    syscall(101, 16, 1, 0, 0);
    exit 0 if syscall(101, 16, $parent, 0, 0) < 0;
    sleep 1000;
}
wait;
exit 0;
