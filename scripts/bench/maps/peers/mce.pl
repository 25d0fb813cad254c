# SPDX-License-Identifier: MIT
#
# The side of Perl's MCE: a pool of processes, which it forks on the first map and keeps.
#
#     perl mce.pl CASE SIZE WORKERS
#
# Answers "about" and "turn" as side.lua does. Chunks are those of MCE's "auto", or those that a case names.

use strict;
use warnings;

use MCE;
use MCE::Map;
use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC);

my ($case, $size, $workers) = @ARGV;
my $scale = 1;

# ---- what is mapped: the functions of the workloads in Perl ----------------------------------------------------------

sub square { $_[0] * $_[0] }

sub row {
    my ($imaginary) = @_;
    my $total = 0;
    for my $x (0 .. 599) {
        my $real = $x * (3 / 600) - 2.25;
        my ($zr, $zi, $steps) = (0, 0, 0);
        while ($steps < 255 && $zr * $zr + $zi * $zi <= 4) {
            ($zr, $zi) = ($zr * $zr - $zi * $zi + $real, 2 * $zr * $zi + $imaginary);
            $steps++;
        }
        $total += $steps;
    }
    return $total;
}

sub ensemble {
    my $state = $_[0] * 7919 + 1;
    my $draw = sub { $state = $state * 48271 % 2147483647; $state / 2147483647 };
    my @bodies;
    for (1 .. 5) {
        my %body;
        $body{$_} = $draw->() * 10 for qw(x y z);
        $body{$_} = $draw->() - 0.5 for qw(vx vy vz);
        $body{mass} = $draw->() + 0.5;
        push @bodies, \%body;
    }
    return @bodies;
}

sub attract {
    my ($a, $b) = @_;
    my ($dx, $dy, $dz) = ($a->{x} - $b->{x}, $a->{y} - $b->{y}, $a->{z} - $b->{z});
    my $d2 = $dx * $dx + $dy * $dy + $dz * $dz + 0.01;
    my $pull = 0.001 / ($d2 * sqrt $d2);
    my ($of_a, $of_b) = ($a->{mass} * $pull, $b->{mass} * $pull);
    $a->{vx} -= $dx * $of_b;
    $a->{vy} -= $dy * $of_b;
    $a->{vz} -= $dz * $of_b;
    $b->{vx} += $dx * $of_a;
    $b->{vy} += $dy * $of_a;
    $b->{vz} += $dz * $of_a;
    return;
}

sub energy {
    my @bodies = @_;
    my $sum = 0;
    for my $i (0 .. 4) {
        my $a = $bodies[$i];
        $sum += $a->{mass} * ($a->{vx}**2 + $a->{vy}**2 + $a->{vz}**2) / 2;
        for my $b (@bodies[$i + 1 .. 4]) {
            my ($dx, $dy, $dz) = ($a->{x} - $b->{x}, $a->{y} - $b->{y}, $a->{z} - $b->{z});
            $sum -= $a->{mass} * $b->{mass} / sqrt($dx * $dx + $dy * $dy + $dz * $dz);
        }
    }
    return $sum;
}

sub simulate {
    my @bodies = ensemble($_[0]);
    for (1 .. 1000) {
        for my $i (0 .. 3) {
            attract($bodies[$i], $bodies[$_]) for $i + 1 .. 4;
        }
        for my $body (@bodies) {
            $body->{x} += 0.001 * $body->{vx};
            $body->{y} += 0.001 * $body->{vy};
            $body->{z} += 0.001 * $body->{vz};
        }
    }
    return energy(@bodies);
}

sub count {
    open my $file, '<:raw', $_[0] or die "$_[0]: $!";
    local $/;
    my $text = <$file>;
    my %counts;
    $counts{lc $1}++ while $text =~ /([A-Za-z]+)/g;
    return \%counts;
}

sub same { $_[0] }

sub sum_of {
    my $sum = 0;
    $sum += $_ for @{ $_[0] };
    return $sum;
}

sub work {
    my $x = 1;
    $x = $x * 16807 % 2147483647 for 1 .. $_[0] * 300;
    return $x;
}

# ---- items, and one number for the results, as the workloads make them -----------------------------------------------

sub summed {
    my ($results, $term) = @_;
    my $sum = 0;
    $sum += $term->($results->[$_], $_ + 1) for 0 .. $#$results;
    return $sum;
}

sub weighted { summed($_[0], sub { $_[0] % 65521 * ($_[1] % 7) }) }
sub by_seven { summed($_[0], sub { $_[0] * ($_[1] % 7) }) }
sub by_index { summed($_[0], sub { $_[0] * $_[1] }) }

sub one_to { [1 .. $_[0]] }

sub paths {
    chomp(my @list = qx(find /usr/include/linux -type f -name '*.h' | LC_ALL=C sort | head -n $_[0]));
    return \@list;
}

sub check_words {
    my ($total) = @_;
    my $sum = 0;
    $sum += $total->{$_} * length for keys %$total;
    return $sum * 1000000 + keys %$total;
}

sub add_up {
    my %total;
    for my $counts (@{ $_[0] }) {
        $total{$_} += $counts->{$_} for keys %$counts;
    }
    return \%total;
}

sub strings {
    my $rest = '0123456789' x 99999;
    return [map { sprintf('%010d', $_) . $rest } 1 .. $_[0]];
}

sub check_strings {
    summed($_[0], sub { (substr($_[0], 0, 10) + ord substr $_[0], -1) * length $_[0] });
}

sub lists {
    return [map { my $i = $_; [map { $i + $_ / 8 } 1 .. 1000] } 1 .. $_[0]];
}

sub check_lists {
    summed($_[0], sub { my $v = $_[0]; @$v + $v->[0] + $v->[499] * 2 + $v->[999] * ($_[1] % 7) });
}

sub record {
    my ($i) = @_;
    my @tags = map { 'tag' . $i % $_ } 10, 7, 3;
    return { id => $i, name => sprintf('name%06d', $i), score => $i / 8, tags => \@tags };
}

sub records { [map { record($_) } 1 .. $_[0]] }

sub check_records {
    summed($_[0], sub {
        my ($r, $i) = @_;
        $r->{id} + $r->{score} * ($i % 7) + substr($r->{name}, 4) + ord substr $r->{tags}[2], -1;
    });
}

sub scattered {
    my $state = 11;
    return [map { $state = $state * 48271 % 2147483647; $state % 1000 ? 1 : 1000 } 1 .. $_[0]];
}


# ---- cases -----------------------------------------------------------------------------------------------------------

sub init {
    my ($chunk) = @_;
    MCE::Map->init(max_workers => $workers, chunk_size => $chunk || 'auto');
    return;
}

# Not a lexical: a block that captures one is another block in each call, for which MCE forks its workers anew.
our $mapped;

sub mapping {
    my ($fn, $items, $check, $chunk, $finish) = @_;
    init($chunk);
    my $list = $items->($size);
    $mapped = \&$fn;
    my $run = sub {
        my @results = mce_map { $mapped->($_) } $list;
        return $finish ? $finish->(\@results) : \@results;
    };
    return ($run, $check);
}

sub pools {
    my $run = sub {
        my @results;
        for (1 .. $size) {
            init();
            @results = mce_map { square($_) } 1 .. 10;
            MCE::Map->finish;
        }
        return \@results;
    };
    return ($run, \&by_index);
}

# A call takes milliseconds, so there are fewer of them; the time is made that of $size calls.
sub calls {
    init();
    my $items = one_to(100);
    my $times = $size > 100 ? 100 : $size;
    $scale = $size / $times;
    my $run = sub {
        my @results;
        @results = mce_map { square($_) } $items for 1 .. $times;
        return \@results;
    };
    return ($run, \&by_index);
}

my %cases = (
    'squares.list' => sub { mapping('square', \&one_to, \&weighted) },
    'squares.single' => sub { mapping('square', \&one_to, \&weighted, 1) },
    'mandelbrot.rows' => sub {
        mapping('row', sub { my $n = $_[0]; [map { $_ * (2.4 / $n) - 1.2 } 0 .. $n - 1] }, \&by_seven);
    },
    'bodies.ensembles' => sub { mapping('simulate', \&one_to, \&by_index, 1) },
    'words.headers' => sub { mapping('count', \&paths, \&check_words, undef, \&add_up) },
    'payloads.strings' => sub { mapping('same', \&strings, \&check_strings) },
    'payloads.lists' => sub { mapping('same', \&lists, \&check_lists) },
    'payloads.sums' => sub { mapping('sum_of', \&lists, \&by_seven) },
    'payloads.records' => sub { mapping('same', \&records, \&check_records) },
    'uneven.scattered' => sub { mapping('work', \&scattered, \&by_seven) },
    'start.pool' => \&pools,
    'calls.small' => \&calls,
);

my ($run, $check) = $cases{$case}->();
$| = 1;
while (my $request = <STDIN>) {
    if ($request eq "turn\n") {
        my $start = clock_gettime(CLOCK_MONOTONIC);
        my $results = $run->();
        my $seconds = clock_gettime(CLOCK_MONOTONIC) - $start;
        printf "seconds=%.17g check=%.17g\n", $seconds * $scale, $check->($results);
    } else {
        printf "pid=%d version=MCE %s, Perl %vd\n", $$, MCE->VERSION, $^V;
    }
}
MCE::Map->finish;
