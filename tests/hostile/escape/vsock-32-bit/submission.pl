#!/usr/bin/perl
DynaLoader::boot_DynaLoader("DynaLoader");
# Runs machine code in a process of its own, which ends with the error of its last call; returns the wait status.
sub run {
    my $code = "\x31\xdb" . $_[0] . "\x48\x63\xc0\x89\xc7\xf7\xdf\xb8\xe7\0\0\0\x0f\x05";
    my $pid = fork() // exit 3;
    if (!$pid) {
        my $address = unpack("J", pack("P", $code));
        my $page = $address & ~4095;
        syscall(10, $page, $address + length($code) - $page, 7);
        DynaLoader::dl_install_xsub("main::code", $address);
        code();
    }
    waitpid($pid, 0);
    return $?;
}
# What the filter does: an error (ENOSYS), or SIGSYS.
sub refused { return $_[0] == 38 << 8 || ($_[0] & 127) == 31 }
# The arguments must be in the lowest 4 GiB: mmap with MAP_PRIVATE, MAP_ANONYMOUS, MAP_32BIT and MAP_POPULATE.
my $low = syscall(9, 0, 4096, 3, 0x8062, -1, 0);
exit 3 if $low <= 0;
my $arguments = pack("LLL", 40, 1, 0);
pipe(my $reader, my $writer) or exit 3;
syswrite($writer, $arguments);
syscall(0, fileno($reader), $low, 12) == 12 or exit 3;
exit(refused(run("\xb8" . pack("L", 102) . "\xbb" . pack("l", 1) . "\xb9" . pack("l", $low) . "\xcd\x80")) ? 0 : 66);
