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
exit(refused(run("\xb8" . pack("L", 288) . "\xbb" . pack("l", 0) . "\xb9" . pack("l", -3) . "\xba" . pack("l", 1) . "\xcd\x80")) ? 0 : 66);
