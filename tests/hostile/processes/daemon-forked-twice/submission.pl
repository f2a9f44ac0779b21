#!/usr/bin/perl
exit if fork;
syscall(112);
exit if fork;
sleep 1000;
