open my $out, '>', '/job/out/results.json' or die;
print $out '<testsuite>' x 80_000;
