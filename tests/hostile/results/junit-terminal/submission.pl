open my $out, '>', '/job/out/results.json' or die;
print $out "<testsuite><testcase name='\e]0;x\a'><failure>\0\e[2J&#27;</failure></testcase></testsuite>";
