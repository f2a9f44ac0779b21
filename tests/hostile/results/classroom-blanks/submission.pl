open my $out, '>', '/job/out/results.json' or die;
print $out ' ' x 1_000_000;
