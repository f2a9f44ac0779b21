open my $out, '>', '/job/out/results.json' or die;
print $out '{"results": {"tests": ', '[' x 500_000;
