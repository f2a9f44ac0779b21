#!/usr/bin/perl
my $code = "\xb8\x01\0\0\0\xbb\x42\0\0\0\xcd\x80\x0f\x0b";  # exit(66), then an illegal instruction
my $base = 0x08048000;
my $header = "\x7fELF\1\1\1" . "\0" x 9 . pack("SSLLLLLSSSSSS", 2, 3, 1, $base + 84, 52, 0, 0, 52, 32, 1, 0, 0, 0);
my $segment = pack("LLLLLLLL", 1, 0, $base, $base, 84 + length($code), 84 + length($code), 5, 4096);
open(my $file, ">", "/job/out/program") or exit 3;
print $file $header, $segment, $code;
close($file);
chmod(0755, "/job/out/program");
my $status = system("/job/out/program");
exit($status == 66 << 8 ? 66 : 0);
