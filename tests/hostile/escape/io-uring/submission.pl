#!/usr/bin/perl
# Whether it may is the engine's filter's business (docs/untrusted-code.md): as many as it likes, to hold on to.
for (1 .. 200) {
    my $settings = "\0" x 120;
    last if syscall(425, 8, $settings) < 0;
}
sleep 1;
exit 0;
